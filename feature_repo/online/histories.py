"""Users' histories as Feast's SDK reads them: for people and tests, where seconds do not matter."""

from collections.abc import Iterable
from pathlib import Path

from feature_repo.store import nothing_there, open_store, service_name, store_folder, versions
from recommender.errors import KuberecError


def online_histories(home: Path, user_ids: Iterable[str]) -> dict[str, list[str]]:
    """Each user's latest history, raw item ids, oldest first; empty for an unknown user.

    It is read by the FeatureService of the newest model version.

    Raises:
        KuberecError: nothing has been materialised in `home`, or the registry does not know the
            version.
    """
    wanted = list(dict.fromkeys(user_ids))
    if not wanted:
        return {}
    folder = store_folder(home)
    known = versions(folder)
    if not known:
        raise nothing_there(folder)
    store = open_store(folder)
    from feast.errors import FeatureServiceNotFoundException

    name = service_name(known[-1])
    try:
        service = store.get_feature_service(name)
    except FeatureServiceNotFoundException as error:
        raise KuberecError(
            f"the feature store's registry has no FeatureService '{name}': is it the store that "
            "the version's run filled (FEAST_FS_YAML_FILE_PATH)? Name that one, or run the "
            "pipeline again (`kuberec run CONFIG`)"
        ) from error
    answer = store.get_online_features(service, [{"user_id": user} for user in wanted]).to_dict()
    found = zip(answer["user_id"], answer["history"], strict=True)
    return {user: list(history or []) for user, history in found}

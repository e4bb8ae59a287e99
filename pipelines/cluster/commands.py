"""`kuberec compile`, `submit`, `schedule` and `deploy`; heavy imports stay inside."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from components.step import state_home
from pipelines.options import ConfigPath, Overrides, console

Image = Annotated[
    str | None,
    typer.Option(
        "--image",
        envvar="KUBEREC_IMAGE",
        help="The steps' image in place of cluster.image, best by digest: name@sha256:…",
    ),
]
Host = Annotated[
    str,
    typer.Option(
        envvar="KFP_HOST",
        help="Address of Kubeflow Pipelines' API, such as http://127.0.0.1:8888 after "
        "'kubectl port-forward -n kubeflow svc/ml-pipeline 8888:8888'.",
    ),
]
Namespace = Annotated[
    str | None, typer.Option(help="Namespace of the run, in multi-user Kubeflow.")
]


class ScheduleAction(StrEnum):
    APPLY, ENABLE, DISABLE, DELETE, LIST = "apply", "enable", "disable", "delete", "list"


def compile_(
    config: ConfigPath,
    output: Annotated[Path, typer.Option("--output", "-o")] = Path("pipeline.yaml"),
    image: Image = None,
    overrides: Overrides = None,
) -> None:
    """Write the pipeline as Kubeflow Pipelines YAML, placed as the config's `cluster` section says.

    The same config gives the same bytes, so the file can be kept in git. Upload it in Kubeflow's
    page, or let `kuberec submit` and `kuberec schedule` do that.
    """
    from pipelines.cluster.compile import compile_pipeline, load_for_cluster, warn_of_image

    loaded = load_for_cluster(config, overrides or [], image)
    warn_of_image(loaded, console)
    compile_pipeline(loaded, output)
    console.print(f"wrote {output} for image {loaded.cluster.image}", highlight=False)


def submit(
    config: ConfigPath,
    host: Host,
    image: Image = None,
    namespace: Namespace = None,
    experiment: Annotated[
        str | None, typer.Option(help="Experiment that groups the runs, for cluster.experiment.")
    ] = None,
    cache: Annotated[bool, typer.Option(help="Let Kubeflow reuse unchanged steps.")] = True,
    wait: Annotated[
        bool,
        typer.Option("--wait", "-w", help="Show the steps; exit 1 unless it succeeds."),
    ] = False,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=1, help="Seconds that --wait waits; the run goes on.")
    ] = 86_400.0,
    overrides: Overrides = None,
) -> None:
    """Run the pipeline on Kubeflow Pipelines: upload what is new, start a run, print its page.

    The pipeline is called as the config; its versions are named by their content, so that what is
    there already is not uploaded again. A token, where the host asks for one: KFP_TOKEN. Within the
    cluster the pod's own (audience pipelines.kubeflow.org) is used.

    Example: kuberec submit shop.yaml --host http://127.0.0.1:8888 --wait
    """
    from pipelines.cluster.client import connect
    from pipelines.cluster.compile import load_for_cluster, warn_of_image
    from pipelines.cluster.submit import submit as send
    from pipelines.cluster.watch import watch

    loaded = load_for_cluster(config, overrides or [], image)
    warn_of_image(loaded, console)
    door = connect(host, namespace or loaded.cluster.namespace)
    run = send(
        door,
        loaded,
        state_home() / "cache" / "pipelines",
        console,
        experiment=experiment or loaded.cluster.experiment,
        cache=cache,
    )
    if wait:
        watch(door, run, console, timeout_s)


def schedule(
    config: ConfigPath,
    host: Host,
    action: Annotated[
        ScheduleAction,
        typer.Argument(help="apply: create or update; list shows those of the host."),
    ] = ScheduleAction.APPLY,
    image: Image = None,
    namespace: Namespace = None,
    overrides: Overrides = None,
) -> None:
    """Have Kubeflow run the pipeline again and again, as the config's `cluster.schedule` says.

    The schedule is called as the config. `apply` makes the host's what the file says, `enable` and
    `disable` turn it on and off, `delete` removes it; runs and pipeline versions stay.

    Example: kuberec schedule shop.yaml apply --host http://127.0.0.1:8888
    """
    from pipelines.cluster.client import connect
    from pipelines.cluster.compile import load_for_cluster, warn_of_image
    from pipelines.cluster.schedule import schedule as work

    loaded = load_for_cluster(config, overrides or [], image)
    if action is ScheduleAction.APPLY:
        warn_of_image(loaded, console)
    door = connect(host, namespace or loaded.cluster.namespace)
    work(door, loaded, action.value, state_home() / "cache" / "pipelines", console)


def deploy(
    config: ConfigPath,
    version_dir: Annotated[
        Path, typer.Option("--version-dir", help="A model version: a run's model_version folder.")
    ],
    registry: Annotated[
        Path | None,
        typer.Option(help="Feast registry to publish with it; by default the state home's."),
    ] = None,
    mount: Annotated[
        str | None,
        typer.Option(help="Where a pvc:// store is mounted, for serving.kubernetes."),
    ] = None,
    gateway: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="A way to the gateway from here, for serving.kubernetes."
        ),
    ] = None,
    prometheus: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="A way from here to the Prometheus that scrapes the endpoint's pods, for "
            "serving.kubernetes; a token for it: KUBEREC_PROMETHEUS_TOKEN.",
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Take over a version that somebody set by hand; where the one that serves is not "
            "ready, put this one in its place, unjudged.",
        ),
    ] = False,
    no_canary: Annotated[
        bool,
        typer.Option(
            "--no-canary",
            help="For emergencies, where what serves answers wrongly: put this one in its place at "
            "once, unjudged, by a rolling update.",
        ),
    ] = False,
    overrides: Overrides = None,
) -> None:
    """Roll a model version out on the cluster of KUBECONFIG, without a pipeline.

    Publishes it and lets it run beside the version that serves, as a canary that takes over by the
    steps of serving.rollout; if it is worse, that version serves alone again. A first version is
    set, and checked through the gateway. May be run again: it goes on where it was.

    Example: kuberec deploy shop.yaml --version-dir runs/shop-1/model_version
    """
    from pipelines.deploy import deploy as work

    given = {"model_store_mount": mount, "gateway": gateway, "prometheus": prometheus}
    changes = [f"serving.kubernetes.{key}={value}" for key, value in given.items() if value]
    work(
        config,
        version_dir,
        state_home(),
        console,
        overrides=[*(overrides or []), *changes],
        registry=registry,
        force=force,
        canary=not no_canary,
    )

"""The `kuberec` command. Heavy imports stay inside the commands, so that --help answers at once."""

import io
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from components.step import state_home
from recommender.errors import KuberecError

app = typer.Typer(
    name="kuberec",
    help="From raw events to recommendations served by Triton: on this machine or on Kubernetes.",
    epilog="Start with: kuberec run pipelines/configs/movielens-100k.yaml",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)
console = Console()

ConfigPath = Annotated[Path, typer.Argument(help="A run's YAML, as in pipelines/configs/.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change a value of the YAML."),
]
RunsFolder = Annotated[Path, typer.Option("--runs", envvar="KUBEREC_RUNS", help="Folder of runs.")]
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


@app.command()
def run(
    config: ConfigPath,
    overrides: Overrides = None,
    runs_folder: RunsFolder = Path("runs"),
    cache: Annotated[
        bool, typer.Option(help="Reuse steps whose inputs and code have not changed.")
    ] = True,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the whole output of every step.")
    ] = False,
) -> None:
    """Run the whole pipeline on this machine, up to an endpoint that serves."""
    from pipelines.config import load_config
    from pipelines.keeper import start_keeper
    from pipelines.local import run_locally
    from pipelines.screen import show_summary

    loaded = load_config(config, overrides or [])
    if loaded.source.acknowledgement:
        console.print(loaded.source.acknowledgement, style="dim", highlight=False, markup=False)
    finished = run_locally(loaded, runs_folder, state_home(), console, cache=cache, verbose=verbose)
    start_keeper(state_home())
    show_summary(finished, console)


@app.command("compile")
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


@app.command()
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


@app.command()
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


@app.command()
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
    force: Annotated[
        bool, typer.Option("--force", help="Take over a version that somebody set by hand.")
    ] = False,
    overrides: Overrides = None,
) -> None:
    """Roll a model version out on the cluster of KUBECONFIG, without a pipeline.

    Publishes it, sets it in the InferenceService, waits until its pods are ready, and checks it
    through the gateway; if anything fails, the version before is put back. May be run again.

    Example: kuberec deploy shop.yaml --version-dir runs/shop-1/model_version
    """
    from pipelines.deploy import deploy as work

    given = {"model_store_mount": mount, "gateway": gateway}
    changes = [f"serving.kubernetes.{key}={value}" for key, value in given.items() if value]
    work(
        config,
        version_dir,
        state_home(),
        console,
        overrides=[*(overrides or []), *changes],
        registry=registry,
        force=force,
    )


@app.command()
def runs(runs_folder: RunsFolder = Path("runs")) -> None:
    """List the runs: state, quality, version, report."""
    from pipelines.screen import show_runs

    show_runs(runs_folder, console)


@app.command()
def recommend(
    user: Annotated[
        str | None, typer.Option("--user", "-u", help="The endpoint looks the history up.")
    ] = None,
    history: Annotated[
        list[str] | None,
        typer.Option("--item", "-i", help="Give the history by item ids, oldest first."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option("--exclude", "-x", help="An item that must not come back; repeatable."),
    ] = None,
    k: Annotated[
        int | None, typer.Option("-k", min=1, help="How many items; by default up to 10.")
    ] = None,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=0.001, help="Seconds to wait for the answer.")
    ] = 10.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON for programs, without a user's history.")
    ] = False,
) -> None:
    """Ask the running endpoint for recommendations."""
    from pipelines.recommend import recommend as ask
    from pipelines.screen import show_recommendations

    answer = ask(
        state_home(),
        user=user,
        history=history,
        exclude=exclude or [],
        k=k,
        timeout_s=timeout_s,
        read_history=not as_json,  # by Feast, which takes seconds to load
    )
    show_recommendations(answer, console, as_json=as_json)


@app.command()
def serve(
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="REST and gRPC, both on this port.")
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when it serves; kuberec stop ends it.")
    ] = False,
) -> None:
    """Serve the current model version, until Ctrl-C."""
    from pipelines.serve import serve as work

    work(state_home(), console, port=port, detach=detach)


@app.command()
def status() -> None:
    """Show what serves, where, and the version kept for a way back."""
    from pipelines.serve import show_status

    show_status(state_home(), console)


@app.command()
def rollback() -> None:
    """Switch to the version that served before; no request is lost."""
    from pipelines.serve import rollback as work

    work(state_home(), console)


@app.command()
def stop() -> None:
    """End every process of the endpoint."""
    from pipelines.serve import stop as work

    work(state_home(), console)


def main() -> Any:
    """Entry point: a KuberecError is shown as its message, and ends with status 1."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without UTF-8 shows "?" for "→"
    try:
        return app()
    except KuberecError as error:
        Console(stderr=True, soft_wrap=True).print(
            f"[red]error:[/red] {str(error).replace('[', chr(92) + '[')}", highlight=False
        )
        sys.exit(1)

"""A replay's findings as Markdown: for a ticket, a chat, Kubeflow's page of a run."""

from collections.abc import Iterator

from feature_repo.replay.causes import MEANING, Kind
from feature_repo.replay.report import Example, Report


def markdown(report: Report, max_share: float) -> str:
    """All causes, what they mean, days and versions, and examples by pseudonym."""
    lines = [
        "# Feature skew",
        "",
        f"{headline(report, max_share)} Log: `{report.log}`.",
        "",
        "| cause | kind | rows | share | |",
        "|---|---|---:|---:|---|",
        *(
            f"| {cause} | {cause.kind} | {rows:,} | {rows / report.rows:.3%} | {MEANING[cause]} |"
            for cause, rows in report.causes.items()
        ),
    ]
    if report.lag_s:
        lines += ["", lag_text(report)]
    if report.groups:
        lines += ["", "| version | day (UTC) | rows | skew |", "|---|---|---:|---:|"]
    for group in report.groups:
        rows = sum(group.causes.values())
        skew = sum(n for cause, n in group.causes.items() if cause.kind is Kind.SKEW)
        lines.append(f"| {group.version} | {group.day} | {rows:,} | {skew:,} |")
    lines += list(_examples(report))
    return "\n".join(lines) + "\n"


def headline(report: Report, max_share: float) -> str:
    """The share and its limit, in a sentence."""
    if not report.compared:
        return f"No row could be compared, of {report.rows:,} logged ones."
    return (
        f"{report.skewed:,} of {report.compared:,} compared rows are skew: {report.share:.3%} "
        f"(limit < {max_share:.3%})."
    )


def lag_text(report: Report) -> str:
    """How late the latest events were, where they were missing."""
    lag = report.lag_s
    return (
        f"Rows behind lacked events of p50 {span(lag['p50'])}, p90 {span(lag['p90'])}, at most "
        f"{span(lag['max'])} before; allowed are {span(report.allow_lag_s)}."
    )


def example_text(example: Example) -> str:
    """What is different in one row."""
    parts = [f"{example.used} events, {example.expected} expected"]
    parts += [f"{example.missing} missing"] if example.missing else []
    parts += [f"{example.surplus} too many"] if example.surplus else []
    parts += [f"behind {span(example.lag_s)}"] if example.lag_s is not None else []
    return "; ".join(parts)


def span(seconds: float) -> str:
    """A time in the unit that suits it."""
    for unit, size in (("days", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:,.3g} s"


def _examples(report: Report) -> Iterator[str]:
    if report.examples:
        yield from ("", "| cause | request | user | as of (UTC) | |", "|---|---|---|---|---|")
    for cause, some in report.examples.items():
        for each in some:
            name = each.request_id.replace("|", "\\|").replace("<", "&lt;")  # clients choose it
            moment = f"{each.as_of:%Y-%m-%d %H:%M:%S}"
            yield f"| {cause} | {name} | {each.user_id} | {moment} | {example_text(each)} |"

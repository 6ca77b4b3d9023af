"""The text that ``greenroom up`` prints when all is ready: addresses, sign-in, examples to try."""

from collections.abc import Callable, Mapping, Sequence

from core.settings import Settings
from deployments.local.orchestrator import Orchestrator
from deployments.local.ports import reachable


def block(
    *,
    settings: Settings,
    prefect: Orchestrator,
    tokens: Sequence[Sequence[str]],
    times: Mapping[str, float],
    bold: Callable[[str], str],
    mail: bool,
) -> str:
    """The text; ``tokens`` has role, email and token of each demo user."""
    base = f"http://{reachable(settings.host)}:{settings.port}"
    lines = [
        bold("Greenroom is up."),
        "",
        f"  API         {base}   docs {base}/docs",
        f"  Sockets     ws://localhost:{settings.port}/ws   (STOMP 1.2, 1.1, 1.0)",
        f"  Prefect UI  {prefect.url}   sign in with  {bold(prefect.auth)}",
    ]
    if mail:
        lines.append(f"  Mail        {base}/mail   captured on smtp://127.0.0.1:{settings.capture_port}")
    lines += [f"  Logs        {settings.state_dir}/log", ""]
    if tokens:
        lines.append(bold("Tokens of the demo's users"))
        lines += [f"  {role:<12} {email}\n  {'':<12} {token}" for role, email, token in tokens]
        lines += ["", bold("Try next"), *_examples(base, settings, tokens[0][2])]
    else:
        lines += ["No demo users here; load them with:  greenroom demo"]
    parts = "   ".join(f"{name} {seconds:.1f} s" for name, seconds in times.items())
    return "\n".join([*lines, "", bold("Until ready"), f"  {parts}"])


def _examples(base: str, settings: Settings, token: str) -> list[str]:
    return [
        f"  curl -H 'Authorization: Bearer {token}' '{base}/api/sessions?limit=5'",
        "  In the Prefect UI: Deployments, update-session-statuses, Run, Quick run; then watch:",
        f'  new Client({{brokerURL: "ws://localhost:{settings.port}/ws", connectHeaders: {{passcode: TOKEN}}}})'
        ' of @stomp/stompjs, subscribed to "/topic/sessions"',
        "  Ctrl-C here stops everything; data is kept, and the next start is fast.",
    ]

"""The curve of feedback: the share submitted over time, with the deadline."""

from core.reports.charts import theme
from core.reports.charts.card import Card, chart_card, empty_card, text_card
from core.reports.data import FeedbackTimes
from core.reports.formatting import FEW, all_of, hours, percent, ratio

_HIGHEST = 3.0


def feedback(data: FeedbackTimes) -> Card:
    """The share of due feedback that was submitted, over the share of the time to its deadline."""
    key, unit = "feedback", "Share of feedback due that was in, by time since the session in deadlines"
    n = data.in_time.whole
    if not n:
        return empty_card(key, "No feedback was due in this period", unit)
    if n == 1:
        finding = "The one feedback due was in time" if data.in_time.part else "The one feedback due was late"
        return text_card(key, finding, unit)
    curve = list(data.curve) or [(0.0, 0.0)]
    if curve[0][0] > 0:
        curve.insert(0, (0.0, 0.0))
    end = min(_HIGHEST, max(1.5, curve[-1][0]))
    if curve[-1][0] < end:
        curve.append((end, curve[-1][1]))
    colour = theme.color_for(n, theme.BLUE)
    at = 100 * data.in_time.part / n
    trace = {
        "type": "scatter",
        "mode": "lines",
        "x": [x for x, _ in curve],
        "y": [100 * y for _, y in curve],
        "line": {"color": colour, "width": 2.2, "shape": "hv"},
        "fill": "tozeroy",
        "fillcolor": theme.WASH if n >= FEW else "#f3f4f7",
    }
    point = {
        "type": "scatter",
        "mode": "markers",
        "x": [1],
        "y": [at],
        "marker": {"size": 8, "color": colour, "line": {"color": "#ffffff", "width": 1.5}},
        "cliponaxis": False,
    }
    deadline = data.deadline_hours.median
    one = data.deadline_hours.p90 in (None, deadline)
    text = "deadline" if deadline is None else f"deadline{'' if one else ', median'} {hours(deadline)}"
    below = at > 24
    chart = theme.chart(
        [trace, point],
        width=theme.HALF,
        height=theme.TALL,
        margin=(36, 18, 12, 22),
        shapes=[
            theme.rule_shape(
                x0=1,
                x1=1,
                y0=0,
                y1=1,
                yref="paper",
                layer="above",
                line={"color": theme.INK, "width": 1.2, "dash": "4px,3px"},
            )
        ],
        annotations=[
            theme.note(1, 1.0, theme.bold(text), yref="paper", yanchor="bottom", font={"size": 10, "color": theme.INK}),
            theme.note(
                1,
                at,
                theme.bold(percent(data.in_time.part, n)),
                xanchor="left",
                yanchor="top" if below else "bottom",
                xshift=6,
                yshift=-3 if below else 3,
                font={"size": 11, "color": colour if n >= FEW else theme.GREY},
            ),
        ],
        xaxis={
            "range": [0, end],
            "tickvals": [0, 0.5, 1, 1.5, 2, 2.5, 3],
            "ticktext": ["0", "½", "1", "1½", "2", "2½", "3"],
        },
        yaxis=theme.marks([0, 25, 50, 75, 100], "%") | {"range": [0, 101], "showgrid": True},
    )
    late = n - data.in_time.part
    if not late:
        finding = f"{all_of(n)} feedbacks due were in time"
    elif n < FEW:
        finding = f"{data.in_time.part} of {n} feedbacks were in time"
    else:
        finding = f"{ratio(data.in_time)} of feedback is in by the deadline"
    numbers = [f"by the deadline {percent(data.in_time.part, n)}", f"late or missing {late:,}"]
    return chart_card(key, finding, unit, n, chart, numbers, things="feedback due")

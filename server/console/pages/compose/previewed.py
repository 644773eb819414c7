"""What the ingredients' tensors say before anything is built: sign conflicts, energy over rank."""

from dataclasses import dataclass

from server.console.api.composing import Preview
from server.console.pages.compose.charts import energy_chart
from server.console.pages.compose.explained import show_matrix
from server.console.parts.chart import chart
from server.console.parts.table import Column
from server.console.parts.text import tagged


@dataclass(frozen=True, slots=True)
class Kept:
    """The share of the weighted sum's energy that a rank keeps."""

    rank: int
    share: float


def show_preview(preview: Preview) -> None:
    """Show the figures of a preview."""
    if len(preview.ingredients) > 1:
        title = "Share of entries whose signs conflict"
        show_matrix(title, preview.ingredients, preview.sign_conflicts)
    kept = [Kept(rank, share) for rank, share in enumerate(preview.energy, start=1)]
    columns = [
        Column[Kept]("Rank", lambda row: row.rank),
        Column[Kept]("Share of the energy kept", lambda row: row.share),
    ]
    options = energy_chart(preview.energy, preview.rank)
    chart("Energy that the weighted sum keeps, over its rank", options, columns, kept)
    if 1 <= preview.rank <= len(kept):
        share = kept[preview.rank - 1].share
        tagged("p", f"Rank {preview.rank} keeps {share:.1%} of the energy of the weighted sum.")

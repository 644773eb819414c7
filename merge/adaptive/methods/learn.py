"""The choice between the methods that learn over ingredients: `recycle` and `lorahub`.

`scale` starts from a static recipe instead and is called by itself. Not covered: which adapters
are learned over (`merge.adaptive.selection`) and the controls (`merge.adaptive.controls`).
"""

from merge.adaptive.candidates import Candidate
from merge.adaptive.context import JobContext
from merge.adaptive.methods.fold import Ingredients
from merge.adaptive.methods.lorahub import lorahub
from merge.adaptive.methods.recycle import recycle


def learn(context: JobContext, name: str, title: str, over: Ingredients) -> Candidate:
    """Return the candidate that `context.options.method` learns over the ingredients."""
    return {"recycle": recycle, "lorahub": lorahub}[context.options.method](
        context, name, title, over
    )

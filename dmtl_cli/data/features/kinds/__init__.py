"""One file per kind of feature, with all that is particular to it. Imports config and the modules beside this folder.

A kind is a file here, a line of KINDS and a word in config.
"""

from dmtl_cli.config.features import Feature
from dmtl_cli.data.features.kinds.categorical import Categorical
from dmtl_cli.data.features.kinds.kind import Kind
from dmtl_cli.data.features.kinds.numeric import Numeric
from dmtl_cli.data.features.kinds.sequence import Sequence
from dmtl_cli.data.features.kinds.vector import Vector

KINDS: dict[str, type[Kind]] = {
    "categorical": Categorical,
    "sequence": Sequence,
    "numeric": Numeric,
    "vector": Vector,
}


def kind_of(feature: Feature) -> Kind:
    return KINDS[feature.kind](feature)

"""What firmware a profile or a measurement is of."""

from boards import compiler_version
from energy.provenance import Provenance
from fieldtune import __version__
from fieldtune.revision import revision
from firmware_gen.plan import Plan


def provenance(plan: Plan) -> Provenance:
    """Return what is known of the firmware that is made from `plan` here and now.

    Raises:
        BoardError: there is no compiler for the board.
    """
    return Provenance(
        plan.graph.name,
        plan.graph.fingerprint(),
        plan.hash(),
        plan.board.id,
        plan.board.clock_hz,
        __version__,
        revision(),
        compiler_version(plan.board),
    )

"""Hessian tools for any loss(params, *args) on any pytree: jitted, composable, with the error beside each number.

Products: `hvp`, `ggn_vp`, `fisher_vp`, and `linear_operator`, `ggn_operator`, `fisher_operator`, linearised once and
applied many times. From products: `eigenpairs` at the ends of the spectrum, `trace` and `diagonal` as estimates,
`density` of the whole spectrum, `dense` matrices and their `inertia`, and the loss's `profile` along directions. All
these take a loss with its parameters and data, or an operator; `leaves=` restricts them to a layer, `batch_size=` goes
through the data in batches. `derivatives` is for functions of a few scalars.

Float leaves move, all others are held constant and named (`LinearOperator.held`). The loss is differentiated as it is:
a network in evaluation mode, with batch statistics frozen and dropout off (`landscape.problems.user` makes one of a
Flax, Equinox or Haiku model), or its Hessian is that of a random function. Nothing given is changed. The precision is
the parameters' own; on GPUs that round matrix products (TF32) set `jax.default_matmul_precision("highest")`.

On a CPU narrow networks' products take a quarter less time where none of your own `jit`, `vmap` or `grad` is around the
call: then it chooses which library XLA multiplies matrices with (`landscape.hessian.compiled`, with measurements).
"""

from landscape.hessian.dense import Inertia, dense, inertia
from landscape.hessian.density import Density, Masses, density
from landscape.hessian.estimators import diagonal, trace
from landscape.hessian.lanczos import Eigenpairs, Status, eigenpairs
from landscape.hessian.products import (
    LinearOperator,
    along,
    fisher_operator,
    fisher_vp,
    ggn_operator,
    ggn_vp,
    hvp,
    linear_operator,
)
from landscape.hessian.profile import Profile, profile
from landscape.hessian.small import derivatives, unstacked

__all__ = [
    "Density",
    "Eigenpairs",
    "Inertia",
    "LinearOperator",
    "Masses",
    "Profile",
    "Status",
    "along",
    "dense",
    "density",
    "derivatives",
    "diagonal",
    "eigenpairs",
    "fisher_operator",
    "fisher_vp",
    "ggn_operator",
    "ggn_vp",
    "hvp",
    "inertia",
    "linear_operator",
    "profile",
    "trace",
    "unstacked",
]

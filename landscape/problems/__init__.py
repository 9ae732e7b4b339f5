"""Problems ready to explore: the toy, its deeper chains, classic test surfaces, networks, and data sets for them."""

from landscape.problems import datasets, networks, surfaces, user
from landscape.problems.chains import chain
from landscape.problems.toy import two_weight

__all__ = ["chain", "datasets", "networks", "surfaces", "two_weight", "user"]

"""Problems ready to explore: the toy, its deeper chains, surfaces, a line through samples, networks, and data sets."""

from landscape.problems import datasets, networks, regression, surfaces, user
from landscape.problems.chains import chain
from landscape.problems.linear import linear_network
from landscape.problems.regression import line
from landscape.problems.toy import two_weight

__all__ = ["chain", "datasets", "line", "linear_network", "networks", "regression", "surfaces", "two_weight", "user"]

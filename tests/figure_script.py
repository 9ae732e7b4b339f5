"""A figure script as small as one can be: what the tests of the gallery run."""

import matplotlib.pyplot as plt
import numpy as np

from landscape.gallery import Caption, Text, main

CAPTION = Caption(
    title=Text("A straight line", "直线"),
    says=Text("It is straight & it is <long>.", "它是直的。"),
    measured=Text("Slope {slope:.2f}, end {y[2]:.1f}.", "斜率 {slope:.2f}，终点 {y[2]:.1f}。"),
    caveat=Text("Three points.", "三个点。"),
)


def compute():
    x = np.arange(3.0)
    return {"x": x, "y": 2 * x, "slope": 2.0}


def draw(record):
    figure, ax = plt.subplots(figsize=(2, 1))
    ax.plot(record["x"], record["y"])
    return figure


if __name__ == "__main__":
    main(compute, draw, CAPTION)

"""Figure 6: the Hessian of a trained network. Its whole spectrum, estimated and exact, and the loss along its ends."""

import jax
import numpy as np
import optax
from matplotlib.figure import Figure

import landscape as ls
from landscape import plots
from landscape.gallery import Caption, Text, main

CAPTION = Caption(
    title=Text("The Hessian's spectrum of a trained network", "训练后网络的海森矩阵谱"),
    says=Text(
        "The signs of the Hessian's eigenvalues tell what a point is where training stopped, and the eigenvector of a "
        "negative one shows a way to go on. That a network has too many parameters for its Hessian is no excuse: "
        "products with vectors are enough.",
        "海森矩阵特征值的符号说明训练停在了什么样的点，负特征值对应的特征向量则指出继续下降的方向。网络参数太多、写不"
        "出海森矩阵并不是借口：只要能算矩阵与向量的乘积就够了。",
    ),
    measured=Text(
        "(a) A 64-32-32-10 tanh net ({parameters} parameters) on the digits after {steps} full-batch Adam updates: "
        "loss {loss:.3g}, gradient norm {slope:.1g}. The density by stochastic Lanczos quadrature ({probes} probes of "
        "{lanczos} products each) against the whole matrix, both seen through the same Gaussian of width {width:.2g}; "
        "the 95 % band covers the exact curve at {covered:.0%} of the points. {outliers} outliers by Lanczos, the "
        "largest {top[0]:.5g} (the matrix: {exact_top:.5g}). Trace {trace:.4g} ± {trace_error:.2g} from the density, "
        "{exact_trace:.4g} exactly. Share of eigenvalues below zero, beyond rounding: {negative:.3f} ± "
        "{negative_error:.3f} by quadrature, {exact_negative:.3f} in the matrix. (b, c) The loss along the three "
        "sharpest eigenvectors and the most negative one (λ = {bottom:.3g}): there it falls by {fall:.2g}, where it is "
        "least within the distance shown.",
        "(a) 64-32-32-10 的 tanh 网络（{parameters} 个参数），在手写数字上做 {steps} 次全批量 Adam 更新后：损失 "
        "{loss:.3g}，梯度范数 {slope:.1g}。随机 Lanczos 求积（{probes} 个探测向量，各 {lanczos} 次乘积）得到的密度与整"
        "个矩阵的谱对照，两者都用宽度 {width:.2g} 的同一高斯核平滑；95 % 误差带在 {covered:.0%} 的点上覆盖精确曲线。"
        "Lanczos 给出 {outliers} 个离群特征值，最大的为 {top[0]:.5g}（矩阵：{exact_top:.5g}）。由密度得到的迹为 "
        "{trace:.4g} ± {trace_error:.2g}，精确值 {exact_trace:.4g}。超出舍入误差的负特征值所占比例：求积为 "
        "{negative:.3f} ± {negative_error:.3f}，矩阵为 {exact_negative:.3f}。(b, c) 沿三个最陡的特征向量和最负的一个（"
        "λ = {bottom:.3g}）的损失：在图示距离内，后者使损失下降 {fall:.2g}。",
    ),
    caveat=Text(
        "In single precision {zero} of the {parameters} eigenvalues lie within {tolerance:.1g} of zero, which rounding "
        "alone may reach: to count their signs would be to count noise. The band is that of the random probes; what "
        "{lanczos} products cannot resolve, the kernel hides. The point is where these updates ended, not a critical "
        'point: the gradient is not zero, so "minimum" or "saddle" would be too much said.',
        "在单精度下，{parameters} 个特征值中有 {zero} 个与零相差不到 {tolerance:.1g}，仅舍入误差就能达到这个大小：数它"
        "们的符号就是在数噪声。误差带只反映随机探测向量的误差；{lanczos} 次乘积分辨不了的细节，被这个宽度的核掩盖了。"
        "这里是训练更新停下的地方，并不是临界点：梯度不为零，因此称之为“极小值”或“鞍点”都言过其实。",
    ),
)

SIZES = (64, 32, 32, 10)
OUTLIERS = 8
SHARP = np.linspace(-0.8, 0.8, 41)  # distances along the sharpest eigenvectors: far enough to leave the parabolas
FLAT = np.linspace(-2, 2, 41)  # and along the most negative one


def trained(sizes, steps):
    """The net, and its parameters after full-batch Adam."""
    net = ls.problems.networks.mlp(sizes, "tanh", data=ls.problems.datasets.digits())
    how = {"optimizer": optax.adam, "hyper": {"learning_rate": 0.01}, "steps": steps, "block": 1}
    end = ls.descent.run(net, net.reference, **how, observe=("params", "loss", "gradient_norm")).end
    return net, end


def smoothed(values, grid, width):
    """The density of these eigenvalues on a grid, each a Gaussian of this width and of mass 1/n."""
    total = np.zeros(grid.size)
    for part in np.array_split(np.asarray(values, np.float64), 32):
        total += np.sum(np.exp(-(((grid[:, None] - part[None, :]) / width) ** 2) / 2), axis=1)
    return total / (len(values) * width * np.sqrt(2 * np.pi))


def compute(sizes=SIZES, steps=100, probes=20, lanczos=80):
    net, end = trained(sizes, steps)
    params = end.params
    operator = ls.hessian.linear_operator(net.loss, params, net.data)
    density = ls.hessian.density(operator, probes=probes, steps=lanczos, points=1024, key=1)
    lower, upper = density.band()
    top = ls.hessian.eigenpairs(operator, k=OUTLIERS)
    bottom = ls.hessian.eigenpairs(operator, which="smallest", tolerance=1e-2)
    sharpest = jax.tree.map(lambda leaf: leaf[:3], top.vectors)
    sharp = ls.hessian.profile(net.loss, params, sharpest, SHARP, net.data)
    flat = ls.hessian.profile(net.loss, params, bottom.vectors, FLAT, net.data)
    whole = ls.hessian.inertia(operator)
    grid = np.asarray(density.grid, np.float64)
    exact = smoothed(whole.eigenvalues, grid, float(density.width))
    trace, negative = density.moment(1), density.masses(whole.tolerance).negative
    return {
        "parameters": operator.dimension,
        "steps": steps,
        "loss": end.loss,
        "slope": end.gradient_norm,
        "probes": probes,
        "lanczos": lanczos,
        "width": density.width,
        "grid": grid,
        "mean": density.mean,
        "lower": lower,
        "upper": upper,
        "exact": exact,
        "covered": np.mean((lower <= exact) & (exact <= upper)),
        "outliers": OUTLIERS,
        "top": top.values,
        "exact_top": whole.eigenvalues[-1],
        "trace": trace.mean,
        "trace_error": trace.standard_error,
        "exact_trace": np.sum(np.asarray(whole.eigenvalues), dtype=np.float64),
        "negative": negative.mean,
        "negative_error": negative.standard_error,
        "exact_negative": whole.negative / operator.dimension,
        "zero": whole.zero,
        "tolerance": whole.tolerance,
        "bottom": bottom.values[0],
        "fall": flat.centre - np.min(flat.loss),
        **{f"sharp_{name}": value for name, value in sharp._asdict().items()},
        **{f"flat_{name}": value for name, value in flat._asdict().items()},
    }


def draw(record):
    figure = Figure(figsize=(13, 7.5), layout="constrained")
    panels = figure.subplot_mosaic([["spectrum", "sharp"], ["spectrum", "flat"]], width_ratios=(1.5, 1))
    spectrum = panels["spectrum"]
    curve = plots.Curve(*(record[name] for name in ("grid", "mean", "lower", "upper")))
    plots.spectrum(curve, spectrum, outliers=record["top"], label="Lanczos quadrature")
    plots.theory(record["grid"], record["exact"], spectrum, label="whole matrix, same kernel")
    spectrum.set_title(f"(a) spectrum of the Hessian, {record['parameters']} parameters", fontsize="medium")
    for name, title in (("sharp", "(b) loss along the three sharpest"), ("flat", "(c) along the most negative")):
        lines = ls.hessian.Profile(**{field: record[f"{name}_{field}"] for field in ls.hessian.Profile._fields})
        plots.profile(lines, panels[name])
        panels[name].set_title(title, fontsize="medium")
    return figure


if __name__ == "__main__":
    main(compute, draw, CAPTION)

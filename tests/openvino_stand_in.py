"""A small MobileStyleGAN in OpenVINO's intermediate representation, of the form of the package random-face, and what it computes."""
from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

W_DIM, CHANNELS = 12, (8, 8, 4)      # the latter of 4, 8 and 16 pixels: pictures of 32


class Graph:
    """Writes layers, edges and numbers."""

    def __init__(self) -> None:
        self.layers, self.edges, self.numbers = [], [], b''

    def constant(self, value: Tensor, name: str = '') -> int:
        raw = value.numpy().astype(np.float32).tobytes()
        data = f'<data element_type="f32" shape="{",".join(map(str, value.shape))}" offset="{len(self.numbers)}" size="{len(raw)}"/>'
        self.numbers += raw
        return self._layer('Const', name or f'c{len(self.layers)}', data)

    def node(self, kind: str, *inputs: int) -> int:
        number = self._layer(kind, f'{kind}_{len(self.layers)}')
        self.edges += [f'<edge from-layer="{source}" from-port="0" to-layer="{number}" to-port="{port}"/>' for port, source in enumerate(inputs)]
        return number

    def _layer(self, kind: str, name: str, data: str = '') -> int:
        self.layers.append(f'<layer id="{len(self.layers)}" name="{name}" type="{kind}" version="opset1">{data}</layer>')
        return len(self.layers) - 1

    def xml(self) -> bytes:
        return f'<?xml version="1.0" ?>\n<net><layers>{"".join(self.layers)}</layers><edges>{"".join(self.edges)}</edges></net>'.encode()


class Package:
    """The package's two networks with random numbers; `picture` computes them step by step, as the graph says."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = torch.Generator().manual_seed(seed)
        self.mapping, self.synthesis = Graph(), Graph()
        self.layers = [(self.random(W_DIM, W_DIM), self.random(W_DIM)) for _ in range(2)]
        x = self.mapping.node('Parameter')
        for weight, bias in self.layers:
            shaped = self.mapping.node('Reshape', self.mapping.constant(bias), self.mapping.constant(torch.tensor([1.0, W_DIM])))
            x = self.mapping.node('Add', self.mapping.node('MatMul', x, self.mapping.constant(weight)), shaped)
        self.const = self.random(1, CHANNELS[0], 4, 4)
        self.synthesis.constant(self.const, 'm.input.input')
        self.w = self.synthesis.node('Parameter')
        self.first = self.convolution('m.conv1', CHANNELS[0], CHANNELS[0], 4, dense=True)
        self.blocks = []
        for number, (narrow, wide) in enumerate(zip(CHANNELS, CHANNELS[1:], strict=False)):
            name = f'm.layers.{number}'
            self.blocks.append((self.style(f'{name}.up', narrow, None), self.convolution(f'{name}.conv1', narrow // 4, wide, 8 << number),
                                self.convolution(f'{name}.conv2', wide, wide, 8 << number)))
        self.last = self.convolution(f'm.layers.{number}.to_img', CHANNELS[-1], 12, None)

    def random(self, *shape: int) -> Tensor:
        """Such numbers that features keep their size."""
        return torch.randn(shape, generator=self.rng) / max(1, math.prod(shape[1:])) ** 0.5

    def style(self, name: str, channels: int, factor: float | None) -> tuple:
        graph, weight, bias = self.synthesis, self.random(channels, W_DIM), 1 + self.random(1, channels)
        product = graph.node('MatMul', self.w, graph.constant(weight, f'{name}.modulation.weight'))
        shaped = graph.node('Reshape', graph.node('Add', product, graph.constant(bias, f'{name}.modulation.bias')), self.w)
        if factor is not None:
            graph.node('Multiply', shaped, graph.constant(torch.full([1, 1, 1, 1], factor)))
        else:
            graph.node('Multiply', shaped, self.w)   # the features: no number
        return weight, bias, factor

    def convolution(self, name: str, narrow: int, wide: int, resolution: int | None, dense: bool = False) -> dict:
        graph, made = self.synthesis, {'style': self.style(f'{name}.conv', narrow, 0.5)}
        x, bare = self.w, resolution is None
        if not dense and not bare:
            made['spatial'] = self.random(narrow, 1, 1, 3, 3)
            x = graph.node('GroupConvolution', x, graph.constant(made['spatial'], f'{name}.conv.weight_dw'))
        made['weight'] = self.random(wide, narrow, *((3, 3) if dense else (1, 1)))
        x = graph.node('Convolution', x, graph.constant(made['weight']))
        if not bare:
            made['noise'] = self.random(1, 1, resolution, resolution)
            x = graph.node('Add', x, graph.constant(made['noise']))
        made['bias'] = self.random(1, wide, 1, 1)
        graph.node('Add', x, graph.constant(made['bias'], f'{name}.bias'))
        return made

    def member(self, package: object, name: str, at_most: int = 0) -> bytes:
        """In place of `packages.member`."""
        graph = self.mapping if 'Mapping' in name else self.synthesis
        return graph.xml() if name.endswith('.xml') else graph.numbers

    def latent(self, z: Tensor) -> Tensor:
        x = z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt()
        for weight, bias in self.layers:
            x = F.leaky_relu(x @ weight.T + bias, 0.2) * 2 ** 0.5
        return x

    def picture(self, w: Tensor) -> Tensor:
        """[N, W_DIM] -> [N, 3, 32, 32]"""
        x = self.convolved(self.const.expand(len(w), -1, -1, -1), w, self.first)
        for up, first, second in self.blocks:
            x = self.convolved(self.convolved(pixels(styled(x, w, up)), w, first), w, second)
        return pixels(F.conv2d(styled(x, w, self.last['style']), self.last['weight']) + self.last['bias'])

    def convolved(self, x: Tensor, w: Tensor, layer: dict) -> Tensor:
        x = styled(x, w, layer['style'])
        if 'spatial' in layer:
            x = F.conv2d(x, layer['spatial'][:, 0], padding=1, groups=x.shape[1])
        x = F.conv2d(x, layer['weight'], padding=layer['weight'].shape[-1] // 2)
        return F.leaky_relu(x + layer['noise'] + layer['bias'], 0.2)


def styled(x: Tensor, w: Tensor, style: tuple) -> Tensor:
    weight, bias, factor = style
    return x * ((w @ weight.T + bias) * (1.0 if factor is None else factor))[:, :, None, None]


def pixels(x: Tensor) -> Tensor:
    """The inverse Haar transform by transposed convolutions, as the package has it: rows first, then columns."""
    low, high = torch.tensor([1.0, 1.0]) / 2 ** 0.5, torch.tensor([1.0, -1.0]) / 2 ** 0.5
    count = x.shape[1] // 4
    average, details = x[:, :count], x[:, count:].unflatten(1, (count, 3)).unbind(2)

    def spread(part: Tensor, kernel: Tensor, dim: int) -> Tensor:
        shape, stride = ((2, 1), (2, 1)) if dim == 2 else ((1, 2), (1, 2))
        return F.conv_transpose2d(part, kernel.view(1, 1, *shape).expand(count, -1, -1, -1), stride=stride, groups=count)
    left = spread(average, low, 2) + spread(details[0], high, 2)
    right = spread(details[1], low, 2) + spread(details[2], high, 2)
    return spread(left, low, 3) + spread(right, high, 3)

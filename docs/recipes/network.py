"""A network: convolutions at one resolution with growing holes, in place of the U-Net's scales."""

from torch import nn

from pdip.dip import UNet


class DilatedNet(UNet):
    """A U-Net in its settings, with another body, whose children are the prior's blocks."""

    def __init__(self, scales: int = 3, channels: int = 32, **settings):
        super().__init__(scales, channels, **settings)
        self.body = DilatedBody(scales, channels)


class DilatedBody(nn.Module):
    """``scales`` convolutions with holes of 1, 2, 4, ... pixels, and a 1x1 convolution."""

    def __init__(self, scales: int, channels: int):
        super().__init__()
        for level in range(scales):
            hole = 2**level
            block = nn.Conv2d(channels if level else 1, channels, 3, padding=hole, dilation=hole)
            self.add_module(f"block{level}", nn.Sequential(block, nn.LeakyReLU(0.2)))
        self.out = nn.Conv2d(channels, 1, 1)

    def forward(self, network_input):
        x = network_input.reshape(-1, 1, *network_input.shape[-2:])
        for block in self.children():
            x = block(x)
        return x.reshape(network_input.shape)

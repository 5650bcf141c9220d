"""The network in training as an engine, so that validation runs the very code of predict."""

from __future__ import annotations

import torch

from geoseg.model import Normalization, TorchEngine, device_name, device_precision


class LiveEngine(TorchEngine):
    """An engine over a network that may go on learning."""

    def __init__(
        self, network: torch.nn.Module, normalization: Normalization, classes: int, temperature: float = 1.0
    ) -> None:
        # Not the parent's: there is no bundle yet, and the network is where it is.
        self._device = next(network.parameters()).device
        self.classes = classes
        self.device = device_name(self._device)
        self.precision = device_precision(self._device)
        self._scale = None
        self._temperature = temperature
        gain, bias = (torch.from_numpy(values)[:, None, None] for values in normalization.gain_bias())
        self._gain, self._bias = gain.to(self._device), bias.to(self._device)
        self._layout = torch.contiguous_format if self._device.type == "mps" else torch.channels_last
        self._network = network

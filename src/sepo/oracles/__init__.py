"""Oracles: what a table of measured sequences says of sequences that nobody measured."""

from sepo.oracles.alphabet import ALPHABETS, Alphabet
from sepo.oracles.clusters import clusters
from sepo.oracles.command import FromCommand
from sepo.oracles.fitting import Fit, fit
from sepo.oracles.lightning import LightningOracle, load_lightning
from sepo.oracles.measurements import Measurements, read_measurements
from sepo.oracles.naming import names_command, names_function, oracle_named, require_apart, same_oracle
from sepo.oracles.network import ARCHITECTURES, ConvOracle, ConvOracleConfig
from sepo.oracles.oracle import Ensemble, FromFunction, Oracle, SoftOracle
from sepo.oracles.saved import load_oracle, save_oracle
from sepo.oracles.splits import Split, split_by_group

__all__ = [
    "ALPHABETS",
    "ARCHITECTURES",
    "Alphabet",
    "ConvOracle",
    "ConvOracleConfig",
    "Ensemble",
    "Fit",
    "FromCommand",
    "FromFunction",
    "LightningOracle",
    "Measurements",
    "Oracle",
    "SoftOracle",
    "Split",
    "clusters",
    "fit",
    "load_lightning",
    "load_oracle",
    "names_command",
    "names_function",
    "oracle_named",
    "read_measurements",
    "require_apart",
    "same_oracle",
    "save_oracle",
    "split_by_group",
]

# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""What there is to say of a source in one bit each."""

__all__ = ["FLAGS"]

#: Bits of the ``flags`` column.
FLAGS = {
    "masked pixels": 1,  # pixels of the stamp were missing
    "no answer": 2,  # too much of the stamp was missing: the posterior is the prior
    "few effective draws": 4,  # a reweighted posterior rests on fewer than 20 draws
    "missing bands": 8,  # of the stamp a whole band was missing, or several
    "depth unlike training": 16,  # the exposures lie beyond those that the network was trained for
    "out of domain": 32,  # the stamp looks like no mock: of 100 mocks at most one is as strange
    "border": 64,  # the stamp reaches over the edge of the images
    "saturated": 128,  # a pixel of the source is saturated
    "at the bound": 256,  # the posterior of a parameter piles up at an end of its range
    "multimodal": 512,  # the posterior of the age has more than one peak
    "few mocks": 1024,  # fewer than 10 mocks of the classical peer agree with the photometry
    "PSF unlike training": 2048,  # the PSF told is sharper or wider than those that the network was trained for
}

"""Numbers that the schedule, made on the CPU, and the kernels agree on. Imports nothing."""

BLOCK, WARPS = 512, 4
"""Pixels and warps a program. So a thread has four neighbouring pixels: a float32 store of 16 bytes a channel, one
block of Philox, and few enough registers that several programs share a multiprocessor."""

# Instructions. Formulas come behind these, in the order of the vocabulary.
LOAD, LOOKUP, ADD, JOIN, FORMULA = 0, 1, 2, 3, 4

# An instruction is a row of whole numbers. Of every one:
OP, AT, STATISTIC = 0, 1, 2
"""What to do; where its arguments start; the row of its statistic or of its table."""
# of LOAD, besides OP:
SOURCE, MAP_FIRST, MAP_LAST, HEIGHT, WIDTH, TAPS, TAPS_AT, TAPS_N, SKIP = 1, 2, 3, 4, 5, 6, 7, 8, 9
"""IMAGE or a row of scratch; its maps; its size; a neighbourhood, where its weights start, and how many; where the
program goes on instead if this is not its first instruction (0: nowhere else)."""
INSTRUCTION = 10
IMAGE = -1

# A map is nine float64, and four whole numbers:
MAP_HEIGHT, MAP_WIDTH, MAP_OUTSIDE, MAP_PROJECTIVE = 0, 1, 2, 3
META = 4
ZERO, EDGE, NOWHERE = 0, 1, 2
"""What a position outside the map's frame means: black, the nearest pixel; NOWHERE: there is none outside."""

# Neighbourhoods of a LOAD.
NO_TAPS, SHARPEN, ROW, ROW_REPEATED, COLUMN, COLUMN_REPEATED = 0, 1, 2, 3, 4, 5

# A job is what one sample has to do in one launch.
SAMPLE, FIRST, LAST, ROW_OUT, OUT_HEIGHT, OUT_WIDTH, NEED = 0, 1, 2, 3, 4, 5, 6
"""The sample; its instructions from FIRST up to LAST; where the result goes: OUT, a row of scratch, or the row of a
statistic; its size; which statistic."""
JOB = 8
OUT = -1

# Statistics.
GREY_MEAN, CHANNEL_MEAN, CHANNEL_RANGE, HISTOGRAM = 0, 1, 2, 3
NEEDS = {"grey_mean": GREY_MEAN, "channel_mean": CHANNEL_MEAN, "channel_range": CHANNEL_RANGE}
LEVELS = 256

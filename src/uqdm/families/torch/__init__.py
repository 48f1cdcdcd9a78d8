"""What float models of all families share: densities, cells, blocks, bits by step, calibration for
integers. Needs PyTorch.
"""

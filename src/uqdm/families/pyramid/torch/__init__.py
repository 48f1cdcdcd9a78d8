"""The family's model in floats: training, evaluation, quantising. The only part of the family that
needs PyTorch.
"""

"""The training step's own CPU kernels (``fused.cpp``): built by the C++ compiler that is there, done without where not.

``build`` compiles and loads them, ``norm`` and ``pictures`` call them; each says what plain PyTorch it equals.
"""

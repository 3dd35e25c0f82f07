"""How weights move: targets, adapters, full and sparse fine-tuning, optimizers, quantized bases. The front door is :mod:`training_pro.train_utils`."""

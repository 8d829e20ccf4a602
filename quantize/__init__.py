"""Float networks to int8: equalize, calibrate, round, train, and write ONNX with integers."""

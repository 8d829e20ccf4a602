import pytest

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed; pip install 'fieldtune[quantize]'")
pytest.importorskip("nncf", reason="nncf is not installed; pip install 'fieldtune[quantize]'")
pytest.importorskip("torch", reason="torch is not installed; pip install 'fieldtune[quantize]'")

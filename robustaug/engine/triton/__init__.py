"""The CUDA backend of the engine: `backend` is its face, and imports Triton only when it runs."""

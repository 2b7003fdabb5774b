"""Identity similarity: the same picture is the same person, another one less so; a grade only where asked for."""

from __future__ import annotations

import torch

from stylegan_surv.gan import load_generator
from stylegan_surv.inversion import EmbedSettings, embed
from stylegan_surv.inversion.identity import similarity


def test_identity_grades_faces():
    generator = load_generator("synthetic-64")
    z = torch.randn(3, generator.config.z_dim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        faces = generator(z, truncation_psi=0.7).clamp(-1, 1)
    assert torch.allclose(similarity(faces, faces), torch.ones(3), atol=1e-5)
    assert similarity(faces[:1], faces[1:2]).item() < 0.97
    graded = embed(faces, settings=EmbedSettings(method="encoder", batch=3, identity=True)).frame["identity"]
    assert graded.between(0.5, 1.0).all()
    assert embed(faces, settings=EmbedSettings(method="encoder", batch=3)).frame["identity"].isna().all()

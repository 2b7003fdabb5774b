"""MediaPipe's three small face networks as plain modules: detector, mesh and matte; their weights are bundled."""

from stylegan_surv.faces.mesh.networks.matte import PersonMatte
from stylegan_surv.faces.mesh.networks.mesh import FaceMesh
from stylegan_surv.faces.mesh.networks.short_range import ShortRangeDetector

__all__ = ["FaceMesh", "PersonMatte", "ShortRangeDetector"]

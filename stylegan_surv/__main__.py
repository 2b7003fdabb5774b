"""``python -m stylegan_surv`` is the ``stylegan-surv`` command."""

from stylegan_surv.cli import main

main()

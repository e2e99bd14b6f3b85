"How JupyterLab runs here: `make lab` gives it this folder as JUPYTER_CONFIG_DIR."
import warnings
from pathlib import Path

from jupyter_client.kernelspec import KernelSpecManager
from nbdev.clean import clean_nb
from nbdev.config import get_config as nbdev_settings

ROOT = Path(__file__).resolve().parents[1]


class ThisEnvironment(KernelSpecManager):
    "Knows one kernel, this interpreter: a kernelspec named python3 in the user's folders may start another."
    def _kernel_dirs_default(self):
        return []


def clean_on_save(path, model, contents_manager, **_):
    "Store a notebook of nbs/ without outputs, and otherwise as `nbdev_clean` would; the open tab keeps what it shows."
    file = Path(contents_manager.root_dir, path.strip("/")).resolve()
    if model["type"] != "notebook" or ROOT / "nbs" not in file.parents: return
    for cell in model["content"]["cells"]:
        if cell["cell_type"] == "code": cell["outputs"] = []
    settings = nbdev_settings(path=ROOT)
    keys = [settings.get(name).split() for name in ("allowed_metadata_keys", "allowed_cell_metadata_keys")]
    clean_nb(model["content"], False, *keys)


# Jupyter sets it twice, and warns that the first was there
warnings.filterwarnings("ignore", "Overriding existing pre_save_hook")

c = get_config()  # noqa: F821  Jupyter's
c.ServerApp.ip = "127.0.0.1"
c.ServerApp.root_dir = str(ROOT)
c.ServerApp.kernel_spec_manager_class = ThisEnvironment
c.KernelManager.transport_encryption = "auto"
c.ContentsManager.pre_save_hook = clean_on_save
c.LabApp.default_url = "/lab/tree/nbs/index.ipynb"

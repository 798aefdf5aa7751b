"""Progress on the screen."""

from skorch.callbacks import Callback
from tqdm.auto import tqdm

__all__ = ["ProgressBar"]


class ProgressBar(Callback):
    """A bar over the epochs of every phase, with the latest loss.

    Parameters
    ----------
    title : str
        The estimator's name.
    """

    def __init__(self, title: str):
        self.title = title
        self.bar_ = None

    def begin_phase(self, net, done: int) -> None:
        """Open the bar of a phase of which ``done`` epochs are behind."""
        self.bar_ = tqdm(
            total=net.phase_.max_iter,
            initial=done,
            desc=f"{self.title}: {net.phase_.name}",
            unit="epoch",
        )

    def on_epoch_end(self, net, **kwargs):
        row = net.history[-1]
        losses = {key: f"{row[key]:.4g}" for key in ("train_loss", "valid_loss") if key in row}
        self.bar_.set_postfix(losses, refresh=False)
        self.bar_.update()

    def end_phase(self, net) -> None:
        """Close the bar."""
        self.bar_.close()

"""What the package's data modules share."""

from lightning_rnnattn.data.recorded import RecordedDataModule

_READ = {
    "fit": ("train_dataloader", "val_dataloader"),
    "validate": ("val_dataloader",),
    "test": ("test_dataloader",),
    "predict": ("predict_dataloader",),
}


class SharedDataModule(RecordedDataModule):
    """Base of data modules whose loaders deal the data out to the processes by themselves."""

    @property
    def place(self) -> dict[str, int]:
        """This process among those that share the data; in a mesh, those that hold other parameters share none."""
        if self.trainer is None:
            return {"rank": 0, "world_size": 1}
        share = getattr(self.trainer.strategy, "distributed_sampler_kwargs", None)
        if share is None:
            return {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}
        return {"rank": share["rank"], "world_size": share["num_replicas"]}

    @property
    def run(self) -> str:
        """What the trainer is doing with the data: ``fit``, ``validate``, ``test`` or ``predict``; else nothing."""
        running = self.trainer.state.fn if self.trainer is not None else None
        return "" if running is None else str(running.value)

    def prepare_data(self) -> None:
        """Read what the run will read, so that what is wrong with it is said before loggers open a folder for the run.

        Where there are several processes, one of them does; the others find in the cache what it has encoded.
        """
        for loader in _READ.get(self.run, ()):
            getattr(self, loader)()

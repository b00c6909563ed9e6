"""A run that is lost on its way: stopped from the call that tells its progress."""


class Stopped(Exception):
    """Stands in for a lost machine."""


def stop_after(step):
    def progress(at, value):
        if at > step:
            raise Stopped

    return progress

"""An iterator that runs ahead in a thread of its own, so that reading and computing overlap."""

from collections.abc import Generator
from queue import SimpleQueue
from threading import Semaphore, Thread
from typing import TypeVar

Item = TypeVar("Item")


def run_ahead(items: Generator[Item, None, None], depth: int = 2) -> Generator[Item, None, None]:
    """The items of a generator, of which up to `depth` are made and wait while the caller works on one.

    What the generator raises is raised here. It runs and is closed in its thread; whoever leaves early should close
    what this returns, which waits for that.
    """
    made: SimpleQueue[tuple[Item] | BaseException | None] = SimpleQueue()
    places = Semaphore(depth)
    left = False

    def work() -> None:
        try:
            places.acquire()  # before the next item is made: those that wait take memory
            for item in items:
                if left:
                    break
                made.put((item,))
                places.acquire()
            made.put(None)
        except BaseException as error:
            made.put(error)
        finally:
            items.close()

    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        while (got := made.get()) is not None:
            if isinstance(got, BaseException):
                raise got
            places.release()
            yield got[0]
    finally:
        left = True
        places.release()
        thread.join()

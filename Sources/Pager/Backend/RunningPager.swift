import Glibc
import LinuxSystem
import SystemPackage

/// A pager process that this or an earlier host agent started.
final class RunningPager: PagerProcess {
  let identity: PagerIdentity
  private let handle: ProcessHandle
  let runDirectory: FilePath

  init(_ handle: ProcessHandle, runDirectory: FilePath) {
    self.handle = handle
    self.runDirectory = runDirectory
    identity = PagerIdentity(pid: handle.pid, startTimeTicks: handle.startTimeTicks)
  }

  @discardableResult
  func waitForExit() async -> PagerExit {
    await handle.waitForExit()
    if handle.hasEnded { _ = handle.reap() }
    return PagerExit(failure: PagerFailureFile.read(in: runDirectory))
  }

  func kill() async {
    handle.signal(SIGKILL)
    await handle.waitForExit()
    if handle.hasEnded { _ = handle.reap() }
  }
}

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
  func waitForExit() async throws(CancellationError) -> PagerExit {
    await handle.waitForExit()
    guard handle.hasEnded else { throw CancellationError() }
    _ = handle.reap()
    return PagerExit(failure: PagerFailureFile.read(in: runDirectory))
  }

  func kill() async throws(CancellationError) {
    handle.signal(SIGKILL)
    await handle.waitForExit()
    guard handle.hasEnded else { throw CancellationError() }
    _ = handle.reap()
  }
}

import Glibc
import LinuxSystem
import SystemPackage

/// A pager process that this or an earlier host agent started.
final class RunningPager: PagerProcess {
  let identity: PagerIdentity
  private let handle: ProcessHandle
  let runDirectory: FilePath
  /// Nil when it is not known.
  private let workingSet: FilePath?

  init(_ handle: ProcessHandle, runDirectory: FilePath, workingSet: FilePath?) {
    self.workingSet = workingSet
    self.handle = handle
    self.runDirectory = runDirectory
    identity = PagerIdentity(pid: handle.pid, startTimeTicks: handle.startTimeTicks)
  }

  @discardableResult
  func waitForExit() async throws(CancellationError) -> PagerExit {
    await handle.waitForExit()
    guard handle.hasEnded else { throw CancellationError() }
    _ = handle.reap()
    removeDamagedWorkingSet()
    return PagerExit(failure: PagerFailureFile.read(in: runDirectory))
  }

  /// The pager may not. A later restore records another.
  private func removeDamagedWorkingSet() {
    guard let workingSet, let statistics = try? StatisticsFile.read(in: runDirectory), statistics.foundDamagedWorkingSet
    else { return }
    unlink(workingSet.string)
  }

  func kill() async throws(CancellationError) {
    handle.signal(SIGKILL)
    await handle.waitForExit()
    guard handle.hasEnded else { throw CancellationError() }
    _ = handle.reap()
  }
}

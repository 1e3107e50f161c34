import Glibc
import LinuxSystem
import Testing

@testable import Pager

extension PagerProcess {
  /// Tells a recording pager to stop recording. Has no effect on a pager that does not record.
  func finishRecording() async {
    Glibc.kill(identity.pid, SIGUSR1)
  }

  /// The counters that the pager has written to its run directory.
  func statistics() async throws -> PagerStatistics {
    try StatisticsFile.read(in: try #require(self as? RunningPager).runDirectory)
  }
}

import CLinux
import Glibc

/// Measures the frequency of this machine's time stamp counter.
package enum TimeStampCounter {
  private static let sampleNanoseconds: UInt64 = 100_000_000
  private static let pairsPerReading = 16

  /// Measures the frequency in kHz over a tenth of a second. Blocks the calling thread for that time.
  ///
  /// Under QEMU's TCG a guest reads the host's counter but has no clock for calibrating it (microvm has neither HPET
  /// nor PM timer), so the host passes the frequency on the kernel command line (`tsc_early_khz`).
  package static func measureKilohertz() -> Int {
    let begin = reading()
    usleep(UInt32(sampleNanoseconds / 1_000))
    let end = reading()
    let nanoseconds = end.nanoseconds - begin.nanoseconds
    guard nanoseconds > 0 else { return 0 }
    return Int((Double(end.ticks - begin.ticks) * 1_000_000 / Double(nanoseconds)).rounded())
  }

  /// The tightest of several pairs: an interruption between the two readings makes the nanoseconds too late.
  private static func reading() -> (ticks: UInt64, nanoseconds: UInt64) {
    var best: (ticks: UInt64, nanoseconds: UInt64) = (0, 0)
    var smallestGap = UInt64.max
    var previous: UInt64 = 0
    for _ in 0..<pairsPerReading {
      var ticks: UInt64 = 0
      var nanoseconds: UInt64 = 0
      clinux_read_tsc(&ticks, &nanoseconds)
      if previous != 0, ticks - previous < smallestGap {
        smallestGap = ticks - previous
        best = (ticks, nanoseconds)
      }
      previous = ticks
    }
    return best
  }
}

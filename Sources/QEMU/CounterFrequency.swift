import LinuxSystem
package import SystemPackage

/// The rate of this machine's time stamp counter as its guests are told it, the same at every start.
///
/// Each measurement differs a little, and a snapshot is bound to the rate it was taken with: one that is measured a
/// hair beyond a border of `GuestProcessor.roundedMegahertz` must not make all snapshots of the host useless.
package enum CounterFrequency {
  /// Measurements of one counter differ by far less, counters of different machines by more.
  private static let toleratedShare = 1_000

  /// The remembered rate when `measured` is the same within a thousandth, else `measured`, which is remembered from now
  /// on.
  package static func settle(_ measured: Int, in file: FilePath) -> Int {
    let text = (try? SmallFile.readText(file.string)) ?? ""
    if let known = Int(text.filter { !$0.isWhitespace }), known > 0, abs(known - measured) <= known / toleratedShare {
      return known
    }
    // Without a memory the next start measures anew.
    try? SmallFile.replace(file, with: Array("\(measured)\n".utf8), mode: 0o600)
    return measured
  }
}

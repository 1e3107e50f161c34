import LinuxSystem
package import SystemPackage

/// The rate of this machine's time stamp counter, as guests are told it; the same at every start.
///
/// Measurements differ slightly, and a snapshot is bound to the rate at its creation. A measurement slightly beyond a
/// border of `GuestProcessor.roundedMegahertz` must not make all snapshots of the host unusable.
package enum CounterFrequency {
  /// Measurements of one counter differ by far less; counters of different machines differ by more.
  private static let toleratedShare = 1_000

  /// Returns the stored rate if `measured` equals it within a thousandth, else stores and returns `measured`.
  package static func settle(_ measured: Int, in file: FilePath) -> Int {
    let text = (try? SmallFile.readText(file.string)) ?? ""
    if let known = Int(text.filter { !$0.isWhitespace }), known > 0, abs(known - measured) <= known / toleratedShare {
      return known
    }
    // If the rate cannot be stored, the next start measures again.
    try? SmallFile.replace(file, with: Array("\(measured)\n".utf8), mode: 0o600)
    return measured
  }
}

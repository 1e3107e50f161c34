import LinuxSystem

/// What a guest sees of the processor, as text that is equal where its snapshots can run on.
enum GuestProcessor {
  /// Emulated processors are the same everywhere but for the counter's rate, which the guest was told once and for all.
  static func describe(_ accelerator: Accelerator, tscKilohertz: Int) -> String {
    switch accelerator {
    case .tcg: "max at \(roundedMegahertz(tscKilohertz)) MHz"
    case .kvm: hostModel((try? SmallFile.readText("/proc/cpuinfo")) ?? "")
    }
  }

  /// To 10 MHz, since every start measures it anew.
  static func roundedMegahertz(_ kilohertz: Int) -> Int {
    (kilohertz + 5_000) / 10_000 * 10
  }

  /// Name, family, model and stepping of the first processor in /proc/cpuinfo.
  static func hostModel(_ text: String) -> String {
    let fields = text.split(separator: "\n\n", maxSplits: 1).first ?? ""
    func value(_ name: String) -> String {
      let line = fields.split(separator: "\n").first { $0.prefix { $0 != ":" }.filter { $0 != "\t" } == name }
      return line.map { $0.drop { $0 != ":" }.dropFirst().trimmingSpaces } ?? "?"
    }
    return "\(value("model name")) (\(value("cpu family")).\(value("model")).\(value("stepping")))"
  }
}

extension Substring {
  fileprivate var trimmingSpaces: String {
    String(drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
  }
}

import LinuxSystem

/// Describes the processor as a guest sees it, in a text that is equal on all hosts that can restore its snapshots.
enum GuestProcessor {
  /// Emulated processors differ only in the counter's rate, which the guest received at boot.
  static func describe(_ accelerator: Accelerator, tscKilohertz: Int) -> String {
    switch accelerator {
    case .tcg: "max at \(roundedMegahertz(tscKilohertz)) MHz"
    case .kvm: hostModel((try? SmallFile.readText("/proc/cpuinfo")) ?? "")
    }
  }

  /// Rounded to 10 MHz, because every start measures the rate anew.
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

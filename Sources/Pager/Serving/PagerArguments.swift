package import Model
import SystemPackage

/// The command line of a pager process: `martlet pager serve vm-… --store … --generation … --run … --owner … [--record]
/// [--vmm PID]`.
///
/// It contains the instance id, so that a pager that is missing from the journal can be found in /proc.
package struct PagerArguments: Equatable, Sendable {
  /// Name of the hidden command.
  package static let command = "pager"
  /// Descriptor of the listening socket.
  package static let socketDescriptor: Int32 = 3
  /// Descriptor to which one byte is written once faults are served; only for replacements.
  package static let readinessDescriptor: Int32 = 4
  /// Descriptor of an empty mount namespace, which the process enters once it has opened its files. The saver's too.
  package static let namespaceDescriptor: Int32 = 5
  /// Descriptor that takes what the guest needed first; with `--record` only.
  package static let recordingDescriptor: Int32 = 6
  /// Descriptors of the VMM's userfaultfd and of the VMM (a pidfd); with `--vmm` only.
  package static let userfaultDescriptor: Int32 = 7
  package static let machineDescriptor: Int32 = 8

  package var configuration: PagerConfiguration
  /// A running VMM whose faults are taken over.
  package var vmm: Int32?

  package init(_ configuration: PagerConfiguration, vmm: Int32? = nil) {
    self.configuration = configuration
    self.vmm = vmm
  }

  /// The arguments without the program's name.
  package var encoded: [String] {
    var words = [
      Self.command, "serve", configuration.id.wire, "--store", configuration.store.string, "--generation",
      configuration.generation.wire,
      "--run", configuration.runDirectory.string, "--owner", "\(configuration.ownerUID)",
    ]
    if configuration.recordsWorkingSet { words.append("--record") }
    if let vmm { words += ["--vmm", "\(vmm)"] }
    return words
  }

  /// Nil for words that `encoded` does not generate.
  package init?(_ words: [String]) {
    guard words.count >= 3, words[0] == Self.command, words[1] == "serve", let id = InstanceID(wire: words[2]) else {
      return nil
    }
    guard var options = CommandOptions(words.dropFirst(3), flags: ["--record"]) else { return nil }
    guard let store = options.take("--store"), let run = options.take("--run"),
      let generation = options.take("--generation").flatMap({ GenerationID(wire: $0) }),
      let owner = options.take("--owner").flatMap({ UInt32($0) })
    else { return nil }
    let vmm = options.take("--vmm")
    let records = options.takeFlag("--record")
    guard options.isEmpty, vmm == nil || vmm.flatMap({ Int32($0) }) != nil else { return nil }
    self.vmm = vmm.flatMap { Int32($0) }
    configuration = PagerConfiguration(
      id: id, store: FilePath(store), generation: generation, runDirectory: FilePath(run), ownerUID: owner,
      recordsWorkingSet: records)
  }

  /// Whether a process's command line is that of a pager of this instance.
  package static func matches(_ words: [String], _ id: InstanceID) -> Bool {
    words.count >= 4 && words[1] == command && words[2] == "serve" && words[3] == id.wire
  }
}

/// `--name value` pairs and flags, each at most once.
struct CommandOptions {
  private var values: [String: String] = [:]
  private var flags: Set<String> = []

  /// Nil when a value is missing or a name occurs twice.
  init?(_ words: ArraySlice<String>, flags known: Set<String> = []) {
    var rest = words
    while let name = rest.popFirst() {
      if known.contains(name) {
        guard flags.insert(name).inserted else { return nil }
        continue
      }
      guard let value = rest.popFirst(), values.updateValue(value, forKey: name) == nil else { return nil }
    }
  }

  /// Whether all options were taken.
  var isEmpty: Bool { values.isEmpty && flags.isEmpty }

  mutating func take(_ name: String) -> String? { values.removeValue(forKey: name) }

  mutating func takeFlag(_ name: String) -> Bool { flags.remove(name) != nil }
}

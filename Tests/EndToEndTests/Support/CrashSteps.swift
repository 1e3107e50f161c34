import SystemPackage

/// Steps at which the server of Tests/CrashServer can crash. Steps that must occur before are listed first, separated
/// by commas.
///
/// In a sequence there is one crash point between two steps: the one before a step is the one after its predecessor.
enum CrashSteps {
  /// Path beside the release build's guest agent, where the server expects it.
  static let executable = MartletServer.repository.appending("bin/martlet-crash-test").string

  static let making = around("making", ["journal", "directory", "disk", "network", "cgroup", "vmm", "guest", "commit"])
  static let removing = around("removing", ["vmm", "pager", "cgroup", "network", "disk", "directory", "journal"])

  static let pausing =
    along("saving", ["journal", "draft", "freeze", "stop", "devices", "memory", "disk", "publish", "commit"])
    + publishing
  static let resuming = along("making", restored)
  /// Steps of a checkpoint after which the guest continues.
  static let continuing =
    along("saving", ["draft", "freeze", "stop", "devices", "memory", "overlay", "run", "disk", "publish", "commit"])
    + publishing
  static let forking = ["saving-publish-after"] + along("making", restored)
  static let compacting =
    ["store-memoryMerged", "store-deviceStateCopied", merged]
    + (publishing + along("saving", ["commit"])).map { "\(merged),\($0)" }

  /// Steps of a compaction that a long chain forces while the guest runs, and of the save over the merged generation.
  /// The chain is short from the first step of the save on.
  static let compactingWhileRunning =
    ["store-memoryMerged", "store-deviceStateCopied", merged] + publishing.map { "\(merged),\($0)" } + [
      "\(merged),saving-draft-before"
    ]
    + ["saving-overlay-after", "saving-run-after", "saving-disk-after"]

  /// Maximum chain length of a running sandbox; the same as the host agent's.
  static let longestGrowingChain = 24
  /// Chain length from which generations are merged; the same as the host agent's.
  static let longestChain = 8

  private static let restored = [
    "journal", "directory", "disk", "network", "cgroup", "pager", "vmm", "state", "guest", "commit",
  ]
  private static let merged = "store-diskMerged"
  private static let publishing =
    ["filesSynchronized", "manifestWritten", "draftSynchronized", "generationRenamed", "generationPublished"].map {
      "store-\($0)"
    }

  static func around(_ verb: String, _ steps: [String]) -> [String] {
    steps.flatMap { ["\(verb)-\($0)-before", "\(verb)-\($0)-after"] }
  }

  private static func along(_ verb: String, _ steps: [String]) -> [String] {
    steps.prefix(1).map { "\(verb)-\($0)-before" } + steps.map { "\(verb)-\($0)-after" }
  }
}

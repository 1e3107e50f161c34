import SystemPackage

/// Where the server of Tests/CrashServer can be made to die. Moments that must pass first stand before, with commas.
///
/// In a walk there is one moment between two steps: what is before a step is after the one that precedes it.
enum CrashSteps {
  /// Beside the release guest agent, where the server looks for it.
  static let executable = MartletServer.repository.appending("bin/martlet-crash-test").string

  static let making = around("making", ["journal", "directory", "disk", "network", "cgroup", "vmm", "guest", "commit"])
  static let removing = around("removing", ["vmm", "pager", "cgroup", "network", "disk", "directory", "journal"])

  static let pausing =
    along("saving", ["journal", "draft", "freeze", "stop", "devices", "memory", "disk", "publish", "commit"])
    + publishing
  static let resuming = along("making", restored)
  /// A checkpoint after which the guest runs on.
  static let continuing =
    along("saving", ["draft", "freeze", "stop", "devices", "memory", "disk", "overlay", "run", "publish", "commit"])
    + publishing
  static let forking = ["saving-publish-after"] + along("making", restored)
  static let compacting =
    ["store-memoryMerged", "store-deviceStateCopied", merged]
    + (publishing + along("saving", ["commit"])).map { "\(merged),\($0)" }

  /// A compaction that a long chain forces while the guest runs, and what is saved over the merged generation after
  /// that. The chain is short from the first of the latter on.
  static let compactingWhileRunning =
    ["store-memoryMerged", "store-deviceStateCopied", merged] + publishing.map { "\(merged),\($0)" } + [
      "\(merged),saving-draft-before"
    ]
    + ["saving-disk-after", "saving-overlay-after", "saving-run-after"]

  /// How many generations a sandbox that runs may depend on; the host's own bound.
  static let longestGrowingChain = 24
  /// How many generations a sandbox may depend on before they are merged; the host's own bound.
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

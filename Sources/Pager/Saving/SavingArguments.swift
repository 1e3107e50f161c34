import Model
import SystemPackage

/// The command line of a process that saves one memory:
/// `martlet pager save --store … --draft … --directory … --run … --vmm … --memory … [--parent …]`.
struct SavingArguments: Equatable, Sendable {
  var store: FilePath
  var draft: GenerationID
  var draftDirectory: FilePath
  var runDirectory: FilePath
  var vmm: Int32
  var memoryBytes: Int64
  var parent: GenerationID?

  init(
    store: FilePath, draft: GenerationID, draftDirectory: FilePath, runDirectory: FilePath, vmm: Int32,
    memoryBytes: Int64,
    parent: GenerationID?
  ) {
    self.store = store
    self.draft = draft
    self.draftDirectory = draftDirectory
    self.runDirectory = runDirectory
    self.vmm = vmm
    self.memoryBytes = memoryBytes
    self.parent = parent
  }

  /// The arguments without the program's name.
  var encoded: [String] {
    [
      PagerArguments.command, "save", "--store", store.string, "--draft", draft.wire, "--directory",
      draftDirectory.string, "--run",
      runDirectory.string, "--vmm", "\(vmm)", "--memory", "\(memoryBytes)",
    ] + (parent.map { ["--parent", $0.wire] } ?? [])
  }

  /// Nil for words that `encoded` does not generate.
  init?(_ words: [String]) {
    guard words.count >= 2, words[0] == PagerArguments.command, words[1] == "save",
      var options = CommandOptions(words.dropFirst(2)), let store = options.take("--store"),
      let draft = options.take("--draft").flatMap({ GenerationID(wire: $0) }),
      let directory = options.take("--directory"),
      let run = options.take("--run"), let vmm = options.take("--vmm").flatMap({ Int32($0) }),
      let memory = options.take("--memory").flatMap({ Int64($0) })
    else { return nil }
    let parent = options.take("--parent")
    guard options.isEmpty, parent == nil || parent.flatMap({ GenerationID(wire: $0) }) != nil else { return nil }
    self.init(
      store: FilePath(store), draft: draft, draftDirectory: FilePath(directory), runDirectory: FilePath(run), vmm: vmm,
      memoryBytes: memory, parent: parent.flatMap { GenerationID(wire: $0) })
  }
}

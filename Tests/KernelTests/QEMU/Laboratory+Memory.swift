import Pager

extension Laboratory {
  /// Pagers are processes of the program that was built beside the tests.
  var memory: any MemoryBackend {
    ProcessMemoryBackend(executable: Self.root.appending(".build/debug/martlet"), store: store, logger: logger)
  }
}

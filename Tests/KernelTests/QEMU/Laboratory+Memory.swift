import Foundation
import Pager
import SystemPackage

extension Laboratory {
  /// Pagers are processes of the program that was built beside the tests.
  var memory: any MemoryBackend {
    ProcessMemoryBackend(
      executable: FilePath(ProcessInfo.processInfo.arguments[0]).removingLastComponent().appending("martlet"),
      store: store, logger: logger)
  }
}

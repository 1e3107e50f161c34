import Foundation
import Pager
import SystemPackage

extension VMFixture {
  /// Pagers are processes of the program that was built together with the tests.
  var memory: any MemoryBackend {
    ProcessMemoryBackend(
      executable: FilePath(ProcessInfo.processInfo.arguments[0]).removingLastComponent().appending("martlet"),
      store: store, logger: logger)
  }
}

import Concurrency

/// The identity that the host gave this guest through `POST /init`: token, default user and directory, environment.
///
/// Small data shared by all requests. Each accessor is atomic by itself; `update` changes several fields as one.
package final class GuestState: Sendable {
  package struct Identity: Sendable, Equatable {
    /// Secret that every protected request must carry in `X-Access-Token`; nil means that everything is open.
    package var accessToken: String?
    /// User for requests that name none.
    package var defaultUser: String
    /// Working directory for processes that name none; nil means the user's home.
    package var defaultWorkdir: String?
    /// Variables that every user process gets, create-time ones included.
    package var environment: [String: String]
    package var sandboxID: String?
    package var templateID: String?

    package init(
      accessToken: String? = nil, defaultUser: String = GuestState.initialDefaultUser, defaultWorkdir: String? = nil,
      environment: [String: String] = [:], sandboxID: String? = nil, templateID: String? = nil
    ) {
      self.accessToken = accessToken
      self.defaultUser = defaultUser
      self.defaultWorkdir = defaultWorkdir
      self.environment = environment
      self.sandboxID = sandboxID
      self.templateID = templateID
    }
  }

  /// User until `/init` names another; every image has it.
  package static let initialDefaultUser = "root"

  private let storage: Mutex<Identity>

  package init(_ identity: Identity = Identity()) {
    self.storage = Mutex(identity)
  }

  package var identity: Identity { storage.withLock { $0 } }

  package var accessToken: String? {
    get { storage.withLock { $0.accessToken } }
    set { storage.withLock { $0.accessToken = newValue } }
  }

  package var defaultUser: String {
    get { storage.withLock { $0.defaultUser } }
    set { storage.withLock { $0.defaultUser = newValue } }
  }

  package var defaultWorkdir: String? {
    get { storage.withLock { $0.defaultWorkdir } }
    set { storage.withLock { $0.defaultWorkdir = newValue } }
  }

  package var environment: [String: String] {
    get { storage.withLock { $0.environment } }
    set { storage.withLock { $0.environment = newValue } }
  }

  /// Applies several changes as one step.
  package func update<Result: Sendable, Failure: Error>(
    _ body: (inout Identity) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try storage.withLock { (identity) throws(Failure) in try body(&identity) }
  }
}

import Concurrency

/// The identity that the host gave this guest through `POST /init`: token, default user and directory, environment.
///
/// Shared by all requests. Each accessor is atomic; `update` changes several fields atomically.
package final class GuestState: Sendable {
  package struct Identity: Sendable, Equatable {
    /// The secret that protected requests must carry in `X-Access-Token`; nil means that no token is required.
    package var accessToken: String?
    /// The user of requests that name none.
    package var defaultUser: String
    /// The working directory of processes that name none; nil means the user's home.
    package var defaultWorkdir: String?
    /// Variables that every user process gets, including those given when the sandbox was created.
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

  /// The user until `/init` names another. Every image has it.
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

  /// Applies several changes atomically.
  package func update<Result: Sendable, Failure: Error>(
    _ body: (inout Identity) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try storage.withLock { (identity) throws(Failure) in try body(&identity) }
  }
}

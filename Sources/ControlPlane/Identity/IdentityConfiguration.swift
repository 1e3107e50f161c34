package import Persistence

/// How people and programs are let in.
package struct IdentityConfiguration: Sendable {
  /// Of the whole installation. The one that is made up here lasts as long as the process.
  package var secret: TokenSecret
  package var hasher: PasswordHasher
  package var rates: RateLimits.Rates
  /// For teams without bounds of their own.
  package var quota: QuotaRecord
  /// Whether strangers may make accounts for themselves.
  package var allowsSignUp: Bool

  package init(
    secret: TokenSecret = .random(), hasher: PasswordHasher = PasswordHasher(),
    rates: RateLimits.Rates = RateLimits.Rates(),
    quota: QuotaRecord = Quotas.standard, allowsSignUp: Bool = true
  ) {
    self.secret = secret
    self.hasher = hasher
    self.rates = rates
    self.quota = quota
    self.allowsSignUp = allowsSignUp
  }
}

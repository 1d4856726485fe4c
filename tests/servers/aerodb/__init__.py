"""Fakes of AeroDB's services, for which there is nothing real to test against: each follows the contract."""

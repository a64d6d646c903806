//! Desired × actual → actions. The only planner: every backend carries out its [`Action`]s and decides nothing.

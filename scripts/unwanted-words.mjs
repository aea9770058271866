/** Words that hide who acts: name the thread, owner, caller, kernel or handler instead. */
export const UNWANTED = /\b(nobody|somebody|someone|anybody|everybody|whoever|told)\b/i;
